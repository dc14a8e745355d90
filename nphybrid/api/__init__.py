"""The Hugging Face-shaped face: configurations, image processor, models, outputs, pipeline; the checks at the border."""
