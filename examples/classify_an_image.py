"""Prints the label of a picture, with the calls that Hugging Face users know.

    python examples/classify_an_image.py [PICTURE]
"""
import sys
from pathlib import Path

from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor, default_model, open_picture

path = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images" / "cat.png"

processor = ViTHybridImageProcessor.from_pretrained(default_model())
model = ViTHybridForImageClassification.from_pretrained(default_model())

inputs = processor(open_picture(path), return_tensors="np")
print("pixel_values", inputs.pixel_values.shape, inputs.pixel_values.dtype)

outputs = model(**inputs, output_attentions=True)
print("logits      ", outputs.logits.shape)
print("attentions  ", len(outputs.attentions), "blocks of", outputs.attentions[0].shape)
print("label       ", model.config.id2label[outputs.logits.argmax(-1).item()])
