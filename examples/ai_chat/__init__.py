"""A chat with a language model: `python -m examples.ai_chat` serves it, for pages and terminals.

Tokens stream in, and Stop ends the model's work at once. In the midst of an answer the model may
ask whether it may do something: a call from the server to the page, or to the terminal. The cost of
an answer comes as the final value of its stream. Users have tokens that last a minute, and are
renewed while the chat goes on; tags name the roles that a method needs::

    you> send a mail to Cid
    I will write to Cid that lunch is at noon.
    may it send a mail to Cid? (y/n) y
    It is sent.                                    [14 tokens, 0.028 cents]
    you> /bill
    permission_denied: not allowed

The model is a script of thirty lines, so that nobody needs a key; `examples/openai_relay.py` has a
real one.
"""
