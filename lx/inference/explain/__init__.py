"""Why a run says what it says of a text: what each word adds to the score, and what the attention attends to.

Read ``explain`` first, which joins the parts: ``words`` (a text's words and their tokens), ``gradients`` (what tokens
add to a network's score), ``bag`` (the same where the network is linear), ``attention`` and ``row``
(of the test split).
"""
