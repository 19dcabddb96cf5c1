"""Taking in what others say of a member, or of ourselves.

How two accounts of a member become one is said in :mod:`fabric.gossip.members`; here is what
follows from it:

* Another's verdict counts as one witness's word (:mod:`fabric.gossip.suspicion`), another's goodbye
  as hearsay: neither removes anybody by itself.
* A member that raised its incarnation has refuted what it was suspected of.
* What is said of ourselves we refute in person, unless a later life of ours says it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fabric.gossip.members import (
    MAX_HEARSAY_STEP,
    REFUTATION_BITS,
    Member,
    hearsay,
    merge_news,
    needs_probe,
    newer_life,
    sworn_in,
)
from fabric.machine import Sink
from fabric.wire.gossip import ALIVE, DEAD, LEFT, SUSPECT, News, Ping

if TYPE_CHECKING:
    from fabric.gossip.cell import CellGossip

#: The part of an incarnation that counts refutations.
REFUTATIONS: Final = (1 << REFUTATION_BITS) - 1
#: Load numbers that others tell are believed below this: they never run out of 62 bits from there.
SEQ_LIMIT: Final = 1 << 60


def merge_one(
    cell: CellGossip, sender: int, member: Member, news: News, now: int, out: Sink
) -> None:
    """Take in what ``sender`` says of ``member`` by ``news``."""
    old = member.news
    state = news.state
    leaf = cell.level == 0
    own = sender == (member.key if leaf else news.contact.node_id)
    if leaf and not own:
        if member.sworn and newer_life(news.incarnation, old.incarnation):
            cell.verify(member, out)
            return
        believed = hearsay(old, news)
        if believed is None:
            return
        news = believed
    verdict = state == DEAD and old.state != DEAD and news.incarnation >= old.incarnation
    if verdict or (state == LEFT and not own):
        # another's verdict is a witness's word, another's goodbye is hearsay
        news = News(news.key, news.incarnation, SUSPECT, news.contact, news.seq, news.summary)
    if own and not member.sworn:
        member.sworn = True
        merged = sworn_in(old, news)
    else:
        merged = merge_news(old, news)
    if merged is not old:
        cell.renew(member, merged)
        if merged.seq != old.seq:
            member.heard_at = now
        if merged.state != old.state or merged.incarnation != old.incarnation:
            _status_changed(cell, member, old, now, out)
    if verdict:
        witness = cell.speaker(sender)
        if witness is not None:
            cell.court.accuse(member, news.incarnation, witness.key, now, out)
            cell.schedule(out)


def _status_changed(cell: CellGossip, member: Member, old: News, now: int, out: Sink) -> None:
    news = member.news
    refuted = news.incarnation != old.incarnation and news.state == ALIVE
    if refuted or news.state == LEFT:  # whoever said goodbye is not to be found dead as well
        cell.court.acquit(member)
    elif news.state == SUSPECT:
        cell.court.open(member, now, out)
        cell.schedule(out)
    if news.state != SUSPECT:
        cell.hooks.member_changed(cell, member, now, out)


def about_me(cell: CellGossip, news: News, now: int, out: Sink) -> None:
    """Refute what is said of us, unless a later life of ours (or another speaker) says it."""
    mine = cell.news
    if newer_life(news.incarnation, mine.incarnation):
        cell.freshen(cell.myself)  # if that is not so, our own word puts it right
        cell.hooks.superseded(cell, news, now, out)
        return
    if mine.state == LEFT:
        return
    if news.incarnation >> REFUTATION_BITS < mine.incarnation >> REFUTATION_BITS:
        return
    step = news.incarnation - mine.incarnation
    if step > MAX_HEARSAY_STEP or (mine.incarnation + 1) & REFUTATIONS == 0:
        return  # somebody invents numbers; ours are not to run out
    if mine.seq < news.seq < SEQ_LIMIT:
        # we spoke here before under this life, and forgot (our place above came and went):
        # unless we go on from there, nobody listens to our load
        mine = News(cell.key, mine.incarnation, ALIVE, cell.me, news.seq + 1, mine.summary)
        cell.speak(mine)
    if (news.incarnation, news.state) <= (mine.incarnation, ALIVE):
        return
    cell.speak(News(cell.key, news.incarnation + 1, ALIVE, cell.me, mine.seq, mine.summary))
    cell.falter()
    cell.hooks.refuted(cell, out)
    # in person and at once: a suspicion may be short
    refutation = Ping(cell.cell, cell.key, 0, cell.round, cell.path, (cell.news,))
    for member in cell.members.values():
        if needs_probe(member):
            out.send(member.contact, refutation)
