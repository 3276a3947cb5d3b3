"""The four steps of the job, each from folder to folder: train, search, retrain, export."""
