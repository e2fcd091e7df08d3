"""Ways to tune, one file each.

What the rest of the house asks of the module of a method:

``ABOUT``
    One line for `tunesmith ls methods`.
``ON_DISK``
    "adapter": a folder with adapter_config.json and adapter_model.safetensors, in peft's format where peft knows the
    method. "model": a whole model folder.
``IN_PEFT`` (optional)
    False: what is on the disk is an adapter in a format of our own, which plain peft cannot load.
``QUANTIZE`` (optional)
    True: the base is loaded in four bits, to train and to answer, and is not merged to answer.
``RATES``
    What ``learning_rate: auto`` means, by architecture: (largest number of base parameters, rate), ascending.
``rate_share(settings)`` (optional)
    What part of that rate it is with these settings.
``TRAIN`` (optional)
    Fields of ``train`` that the method wants otherwise than the recipe's defaults, such as more epochs. What a recipe
    says itself comes first.
``Settings``
    What a recipe may say beside ``method``. At module level, so that a recipe is checked without torch, which is
    imported inside functions.
``count(settings, model)``
    How many parameters learn, by the closed formula; also on a model without weights. Raises a RecipeError that names
    everything the model cannot take.
``saved(settings, model)`` (optional)
    How many numbers of four bytes ``save`` writes, where they are not as many as learn.
``prepare(settings, model, losses)`` (optional)
    What must be found out from training examples before, as tensors by name. ``losses(n)`` gives for n examples, one
    after the other, the function that computes its loss. The result is kept beside the checkpoints, and goes to
    ``attach`` as ``prepared``.
``preparing_bytes(settings, model, tokens=)`` (with ``prepare``)
    The memory that this takes beside the weights, where the longest example has so many tokens.
``attach(settings, model, kind)``
    The model made ready to train: exactly what learns requires a gradient.
``Settings.for_tasks(names)`` (optional)
    The same settings, told which tasks there are; for a method that learns something for each of them.
``begin(settings, model, tokenizer=, instructions=)`` (optional)
    Gives what ``attach`` made a start that depends on the tasks; ``instructions`` is task -> the words of its template.
``vectors(model)`` (optional)
    (task, place) -> virtual tokens (v, D), whose nearest words the report shows.
``base_values(model, base)`` (where the algebra allows)
    Name -> what a weight that learns has to be for the model to answer as the base; those that may stay as they are
    are left out. ``base()`` loads the base. Between these and what was learned lies the average of base and tuned.
``averages(settings)`` (optional)
    False: with these settings that is not so after all.
``save(model, folder)`` and ``load(model, folder)``
    What was learned to files, and from files onto the base; ``load`` only where ``ON_DISK`` is "adapter".
``merge(model)`` (where the algebra allows)
    The plain transformers model that answers the same.
``NO_MERGE`` (where it does not)
    Why, for the one who asked for it.
``join(sharing, number, folder)`` (where it leaves the base's own weights alone)
    Puts what was learned onto a base that other adapters share (``sharing.py``); ``number`` says which one it is.
"""
