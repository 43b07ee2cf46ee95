"""Small matrices and spectra: the primitives that everything else stands on."""
