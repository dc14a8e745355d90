"""Files of features: what `nphybrid embed` writes."""
