"""What a laptop needs around the pipeline: the images to label, and the commands that set everything up and show it."""
