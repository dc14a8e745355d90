"""The Hugging Face-shaped face: configurations, image processor, models, outputs, pipeline, and the checks at the border."""
