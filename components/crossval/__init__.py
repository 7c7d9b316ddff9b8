"""Cross-validation: train and judge the chosen settings on several cuts of the rows."""
