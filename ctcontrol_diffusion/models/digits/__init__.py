"""Real 8x8 handwritten digits: the data, a class-conditional denoiser, two classifiers.

The denoiser was pretrained with captions that are wrong half of the time, so its samples obey
their prompt about half of the time: something is left to learn. One classifier rewards, the other,
of a different architecture, judges. Weights ship with the package; nothing is downloaded.
"""

from .classifiers import DigitClassifier as DigitClassifier
from .classifiers import classifier_names as classifier_names
from .classifiers import load_classifier as load_classifier
from .classifiers import new_classifier as new_classifier
from .classifiers import save_classifier as save_classifier
from .data import DigitsData as DigitsData
from .data import digits_data as digits_data
from .data import noisy_captions as noisy_captions
from .denoiser import load_denoiser as load_denoiser
from .denoiser import new_denoiser as new_denoiser
from .denoiser import noise_scheduler as noise_scheduler
from .denoiser import save_denoiser as save_denoiser
