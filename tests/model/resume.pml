/* Numbering, acks, replay and resume of protocol.md, for exhaustive checking with Spin.
 *
 * C has C_FRAMES numbered frames to send, and S has S_FRAMES. A link may be lost at any point, with all that is
 * under way in either direction; C may also give a link up that S still has, so that S goes on
 * reading what is left in it. There are LINKS links in all, and the last one is not lost. Batches have
 * at most BATCH frames; at most BUFFER frames of a side are kept unacked.
 *
 * What is checked, in every state that can be reached within these bounds:
 *   - each frame is taken exactly once, and in order (what it carries is its number);
 *   - counts always fit (ACK-3, RESUME-2), so that 4010 is never the answer, with one exception that
 *     the text names: a first token that C never confirmed ends with its link (RESUME-5);
 *   - nobody waits for ever: the model stops only when all was taken, or in that exception. There is
 *     no cycle in it, since every step sends, takes or loses something, so that a side which waits
 *     in vain shows as an end that is no valid one.
 *
 * A macro PLANT_… plants an error; the checker has to find each.
 */

#ifndef C_FRAMES
#define C_FRAMES 3
#endif
#ifndef S_FRAMES
#define S_FRAMES 2
#endif
#ifndef LINKS
#define LINKS 3
#endif
#ifndef BUFFER
#define BUFFER 2
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef ROOM
#define ROOM 2    /* messages under way, each way */
#endif

mtype = { hello, greeting, data, ack };

/* By link: what C says, what S says. data: the first number and how many; ack: the count;
 * hello and greeting: the token and `received`. */
chan from_c[LINKS + 1] = [ROOM] of { mtype, byte, byte };
chan from_s[LINKS + 1] = [ROOM] of { mtype, byte, byte };
bool alive[LINKS + 1];

byte dialled, c_link, c_token;
bool c_open, c_owes_ack;
byte c_sent, c_acked, c_next = 1, c_taken, c_told;

byte s_link, s_before, s_issued, s_tokens;
bool s_begun, s_confirmed, s_link_confirmed, s_ended, s_noticed;
byte s_sent, s_acked, s_next = 1, s_taken, s_told;

bool over;    /* the session has ended as RESUME-5 says */
byte x, y, n;

/* Take frames first … first + many - 1: NUM-3, and each exactly once and in order. */
inline take(taken, first, many) {
    assert(first == taken + 1);
    taken = taken + many
}

/* A batch of `many` frames from `next` on; those above `sent` are numbered now (NUM-2). */
inline write(channel, heard, sent, next, many) {
    if :: heard -> channel ! data(next, many) :: else fi;
    next = next + many;
    if :: next - 1 > sent -> sent = next - 1 :: else fi
}

/* What a new link begins with: all after what the peer has (RESUME-4). */
inline rewind(sent, acked, next, received) {
    assert(acked <= received && received <= sent);    /* else 4010 (RESUME-2) */
    acked = received;
#ifdef PLANT_REPLAY
    if :: received > 0 && received < sent -> next = received :: else -> next = received + 1 fi
#else
    next = received + 1
#endif
}

#define C_MAY_SEND ((c_open && !c_owes_ack) || (c_link == 1 && !c_open))
/* Whether a batch of `many` may go: frames to repeat, or new ones for which there is room. */
#define MAY(many, sent, acked, next, all) \
    (next + many - 1 <= sent || (next + many - 1 <= all && next + many - 1 - acked <= BUFFER))
#define DONE (c_taken == S_FRAMES && s_taken == C_FRAMES)

active proctype session() {
    do
    :: DONE || over -> break

    /* ------------------------------------------------------------------ links */

    :: d_step { !over && c_link == 0 && dialled < LINKS && (dialled == 0 || c_token > 0) ->
        dialled++;
        c_link = dialled;
        alive[c_link] = true;
        c_open = false;
        from_c[c_link] ! hello(c_token, c_taken);
        c_told = c_taken
       }
    :: d_step { !over && c_link == 0 && dialled > 0 && c_token == 0 ->
        over = true    /* S's hello never came: C begins anew, and nobody knows the session */
       }
    /* The network loses a link, and all that is under way on it. */
    :: d_step { c_link > 0 && c_link < LINKS && alive[c_link] ->
        alive[c_link] = false;
        do :: nempty(from_c[c_link]) -> from_c[c_link] ? _, x, y :: empty(from_c[c_link]) -> break od;
        do :: nempty(from_s[c_link]) -> from_s[c_link] ? _, x, y :: empty(from_s[c_link]) -> break od;
        x = 0; y = 0;
        c_link = 0
       }
    /* C gives a link up (HEART-2); S may still read what is in it. */
    :: d_step { c_link > 0 && c_link < LINKS ->
        do :: nempty(from_s[c_link]) -> from_s[c_link] ? _, x, y :: empty(from_s[c_link]) -> break od;
        x = 0; y = 0;
        c_link = 0
       }
    /* S notices that its link is lost. */
    :: d_step { s_begun && !s_ended && !s_noticed && !alive[s_link] ->
        s_noticed = true;
        if :: !s_confirmed -> s_ended = true :: else fi
       }

    /* ------------------------------------------------------------------ hellos */

    :: d_step { dialled > s_link && from_c[dialled] ? [hello, x, y] && nfull(from_s[dialled]) ->
        from_c[dialled] ? hello(x, y);
        if
        :: s_ended -> over = true    /* 4010: never confirmed (RESUME-5) */
        :: !s_ended && x == 0 ->
            assert(!s_begun);
            s_begun = true; s_link = dialled;
            s_tokens = 1; s_issued = 1;
            if :: c_link == s_link -> from_s[s_link] ! greeting(s_issued, s_taken) :: else fi
        :: !s_ended && x > 0 ->
            assert(x == s_issued || x == s_before);    /* else 4010, for no reason */
            rewind(s_sent, s_acked, s_next, y);
#ifndef PLANT_OLD_LINK
            /* What was left in older links counts no more (RESUME-3). */
            do
            :: nempty(from_c[s_link]) -> from_c[s_link] ? _, n, n
            :: empty(from_c[s_link]) -> break
            od;
            n = 0;
#endif
            s_link = dialled;
            s_confirmed = true; s_link_confirmed = false; s_noticed = false;
            s_tokens++;
            s_before = x; s_issued = s_tokens;
#ifdef PLANT_TOKEN
            s_before = 0;    /* void as soon as the new one is issued */
#endif
            s_told = s_taken;
            if :: c_link == s_link -> from_s[s_link] ! greeting(s_issued, s_taken) :: else fi
        fi;
        x = 0; y = 0
       }
    :: d_step { c_link > 0 && from_s[c_link] ? [greeting, x, y] ->
        from_s[c_link] ? greeting(x, y);
        if
        :: c_token == 0 -> assert(y <= c_sent)
        :: else -> rewind(c_sent, c_acked, c_next, y)
        fi;
        c_token = x; c_open = true; c_owes_ack = true;
        x = 0; y = 0
       }

    /* ------------------------------------------------------------------ what C sends */

    :: d_step { c_link > 0 && c_open && (c_owes_ack || c_taken > c_told) && nfull(from_c[c_link]) ->
#ifdef PLANT_ACK
        if
        /* Of a frame that is under way, so that S cannot see it at once. */
        :: !c_owes_ack && c_taken + 1 < s_next && c_link == s_link -> from_c[c_link] ! ack(c_taken + 1, 0)
        :: else -> from_c[c_link] ! ack(c_taken, 0)
        fi;
#else
        from_c[c_link] ! ack(c_taken, 0);    /* ACK-1, RESUME-7 */
#endif
        c_told = c_taken; c_owes_ack = false
       }
    :: d_step { c_link > 0 && C_MAY_SEND && MAY(1, c_sent, c_acked, c_next, C_FRAMES) && nfull(from_c[c_link]) ->
        write(from_c[c_link], true, c_sent, c_next, 1)
       }
    :: d_step { BATCH > 1 && c_link > 0 && C_MAY_SEND && MAY(2, c_sent, c_acked, c_next, C_FRAMES) && nfull(from_c[c_link]) ->
        write(from_c[c_link], true, c_sent, c_next, 2)
       }

    /* ------------------------------------------------------------------ what S sends */

#ifndef PLANT_NO_ACK
    :: d_step { s_begun && !s_ended && alive[s_link] && s_taken > s_told && nfull(from_s[s_link]) ->
        if :: c_link == s_link -> from_s[s_link] ! ack(s_taken, 0) :: else fi;
        s_told = s_taken
       }
#endif
    :: d_step { s_begun && !s_ended && alive[s_link] && MAY(1, s_sent, s_acked, s_next, S_FRAMES) && nfull(from_s[s_link]) ->
        write(from_s[s_link], c_link == s_link, s_sent, s_next, 1)
       }
    :: d_step { BATCH > 1 && s_begun && !s_ended && alive[s_link] && MAY(2, s_sent, s_acked, s_next, S_FRAMES) && nfull(from_s[s_link]) ->
        write(from_s[s_link], c_link == s_link, s_sent, s_next, 2)
       }

    /* ------------------------------------------------------------------ what C takes */

    :: d_step { c_link > 0 && c_open && from_s[c_link] ? [data, x, y] ->
        from_s[c_link] ? data(x, y);
        take(c_taken, x, y);
        x = 0; y = 0
       }
    :: d_step { c_link > 0 && c_open && from_s[c_link] ? [ack, x, y] ->
        from_s[c_link] ? ack(x, y);
        assert(c_acked <= x && x < c_next);    /* ACK-3 */
        c_acked = x;
        x = 0
       }

    /* ------------------------------------------------------------------ what S takes */

    :: d_step { s_begun && !s_ended && from_c[s_link] ? [data, x, y] ->
        from_c[s_link] ? data(x, y);
        take(s_taken, x, y);
        x = 0; y = 0
       }
#ifdef PLANT_OLD_LINK
    :: d_step { s_link > 1 && from_c[s_link - 1] ? [data, x, y] ->    /* against RESUME-3 */
        from_c[s_link - 1] ? data(x, y);
        take(s_taken, x, y);
        x = 0; y = 0
       }
#endif
    :: d_step { s_begun && !s_ended && from_c[s_link] ? [ack, x, y] ->
        from_c[s_link] ? ack(x, y);
        assert(s_acked <= x && x < s_next);    /* ACK-3 */
        s_acked = x;
        s_confirmed = true;
        if :: !s_link_confirmed -> s_link_confirmed = true; s_before = 0 :: else fi;
        x = 0
       }
    od
}
