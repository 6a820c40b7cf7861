"""One folder per notebook: what serves one topic only. A new topic is a folder and a line of this list.

experiment  the measured sweeps that ship, and the settings that they share with the panel
plots       pictures: data in, artists on the given Axes out
panel       the live panel
checks      the checks of the exercises

Topics do not import one another; what two of them need belongs to a room below.
"""

# topic, which is the notebook's name without its number: its live panels
TOPICS = {
    "start_here": ("overview",),
    "magnitude_pruning": ("pruning",),
    "quantization": ("quantization",),
    "shared_weights": ("sharing",),
    "training_with_few_bits": ("few_bits",),
    "knowledge_distillation": ("distillation",),
    "structured_pruning": ("structured",),
    "hyperparameter_search": ("search",),
    "regularization": ("regularization",),
    "learning_rate": ("learning_rate",),
    "optimizers": ("optimizers", "race"),
    "the_article_mlp": ("article_mlp",),
    "deep_compression": ("deep_compression",),
    "order_matters": ("order",),
    "other_architectures": ("architectures",),
    "under_a_budget": ("budget",),
    "ship_it": ("ship_it",),
    "your_own_model": ("your_model",),
}
