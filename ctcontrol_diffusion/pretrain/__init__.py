"""Supervised pretraining of the models that ship with the package: the commands that made them."""
