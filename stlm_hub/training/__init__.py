"""Fine-tuning: a folder of normal photographs in, a calibrated STLM folder out."""
