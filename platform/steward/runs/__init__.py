"""Fine-tunes: dispatched to a trainer process, watched, resumed, finished."""
