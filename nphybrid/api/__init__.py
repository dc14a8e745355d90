"""The Hugging Face-shaped face: configurations, image processor, models, outputs, pipeline; checks at the border."""
