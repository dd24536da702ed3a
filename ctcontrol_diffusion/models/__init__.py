"""Pretrained models that the settings fine-tune, one package per data set."""
