"""A board on which everybody sees everybody's cursor: `python -m examples.cursors`, in two windows.

A cursor that moves is a notification, which nobody answers. Each window watches one stream, in which
the server puts what has changed since the window took the last item: a window that is slow gets
fewer items, and always the newest places. A window that is closed, or gone without a word, takes its
cursor along::

    +---------------- ann's window -+    +---------------- bob's window -+
    |                               |    |                               |
    |        ➤ bob                  |    |        ➤ (this is me)         |
    |                    (me) ➤     |    |                      ➤ ann    |
    +-------------------------------+    +-------------------------------+
"""
