"""Dynamic evaluation: a language model goes on learning from the very text that it is scored on."""

from santm_tf.keras import keras, layers_of
from santm_tf.training import callbacks


def dynamic_evaluation(model, text, rate, clip_norm=1.0):
    """Scores of a text by a model that learns from each window once that is scored.

    `theta_{l+1} = theta_l - rate g_l / (sqrt(v_l) + eps)`, `g_l = grad L_l(theta_l)`,
    `v_l = 0.99 v_{l-1} + 0.01 g_l^2`, bias-corrected: L_l is window l's loss and is part of the score.
    Krause et al. 2018 (arXiv 1709.07432, section 4), but v starts with the text and not from the
    training data, and nothing pulls theta back to what was learned. A text's earlier part foretells its
    later one: names, style. No token is learned from before it is scored.

    It is one epoch of `fit` without dropout, since Keras computes a step's metrics before its update.

    Args:
      model: compiled and stateful, for one text a batch. Its weights change.
      text: dataset of windows in their order, `(x, y, weight)`.
      rate: of learning. clip_norm: the gradients' global norm is clipped at this.

    Returns:
      The scores by name, as `model.evaluate` with `return_dict` gives them.
    """
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model.optimizer = keras.optimizers.Adam(rate, beta_1=0.0, beta_2=0.99, global_clipnorm=clip_norm)
    model.make_train_function(force=True)
    history = model.fit(text, verbose=0, shuffle=False, callbacks=[callbacks.StartSequences()])
    return {name: values[0] for name, values in history.history.items()}
