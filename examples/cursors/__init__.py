"""A board on which everybody sees everybody's cursor: `python -m examples.cursors`, in two windows.

A move of a cursor is a notification, which needs no answer. Each window watches one stream, in
which the server puts the changes since the window took the last item: a slow window gets fewer
items, and always the newest places. The cursor of a window that is closed, or has lost its
connection, goes::

    +---------------- ann's window -+    +---------------- bob's window -+
    |                               |    |                               |
    |        ➤ bob                  |    |        ➤ (this is me)         |
    |                    (me) ➤     |    |                      ➤ ann    |
    +-------------------------------+    +-------------------------------+
"""
