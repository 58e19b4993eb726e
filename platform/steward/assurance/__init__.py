"""Evidence that a model is good and safe enough: evaluations and gates."""
