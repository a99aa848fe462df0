package journal

import (
	"encoding/json"
	"fmt"
	"slices"

	"sallyport.dev/sallyport/events"
)

// intents is what has begun and has no end on the record yet. Each holds room
// for its outcome. Live path and recovery keep it by the same code.
type intents struct {
	sessions map[string]*session
	reserved int64
}

type session struct {
	ID, Protocol string
	First        uint64 // the event that tells who: the latest SessionOpen or Statement
	Opened       bool
	Open         []intent
	Payload      []byte `json:",omitempty"` // of First, once its segment is gone
	room         int64
}

// intent is a statement without an outcome.
type intent struct {
	Number uint64
	Seq    uint64
	Shown  int64 // bytes of its result in the transcript
	// Counted, in a snapshot: pieces in records up to here are in Shown.
	Counted uint64 `json:",omitempty"`
	room    int64
}

// outcomeRoom is what an outcome may need beyond its own intent's size.
const outcomeRoom = 2 << 10

// room returns what an event holds for its outcome.
func room(k events.Kind, size int) int64 {
	if k == events.Statement || k == events.SessionOpen {
		return int64(size) + outcomeRoom
	}
	return 0
}

// event takes note of an event that was appended with seq and size.
func (in *intents) event(k events.Kind, id, protocol string, number, seq uint64, size int) {
	if id == "" {
		return
	}
	if k == events.Statement && number&answered != 0 {
		k, number = events.Response, number&^answered
	}
	s := in.sessions[id]
	r := room(k, size)
	switch k {
	case events.SessionOpen, events.Statement:
		if s == nil {
			s = &session{ID: id, Protocol: protocol, First: seq}
			in.sessions[id] = s
		}
		in.reserved += r
		if k == events.SessionOpen {
			in.reserved -= s.room
			s.room, s.Opened, s.First, s.Payload = r, true, seq, nil
			return
		}
		s.Open = append(s.Open, intent{Number: number, Seq: seq, room: r})
	case events.Response:
		if s != nil {
			in.answered(s, number)
		}
	case events.SessionClose:
		if s != nil {
			in.answered(s, ^uint64(0))
			in.reserved -= s.room
			delete(in.sessions, id)
		}
	}
}

// answered closes all intents up to a number: answers keep the order of
// statements, so that one that never got its own was skipped.
func (in *intents) answered(s *session, number uint64) {
	n := 0
	for n < len(s.Open) && s.Open[n].Number <= number {
		in.reserved -= s.Open[n].room
		n++
	}
	if n > 0 {
		s.Open = append(s.Open[:0], s.Open[n:]...)
	}
	if len(s.Open) == 0 && !s.Opened {
		delete(in.sessions, s.ID)
	}
}

// chunk takes note of a piece of a transcript, in the record seq.
func (in *intents) chunk(id string, c *events.Chunk, seq uint64) {
	s := in.sessions[id]
	shown := int64(c.Shown())
	if s == nil || shown == 0 {
		return
	}
	for i := len(s.Open) - 1; i >= 0; i-- {
		if s.Open[i].Number == c.Number {
			if seq > s.Open[i].Counted {
				s.Open[i].Shown += shown
			}
			return
		}
	}
}

// held returns the room that is kept for an outcome.
func (in *intents) held(k events.Kind, id string, number uint64) int64 {
	s := in.sessions[id]
	if s == nil {
		return 0
	}
	var r int64
	for i := range s.Open {
		if k == events.SessionClose || s.Open[i].Number <= number {
			r += s.Open[i].room
		}
	}
	if k == events.SessionClose {
		r += s.room
	}
	return r
}

// sorted returns the sessions in the order they began in.
func (in *intents) sorted() []*session {
	all := make([]*session, 0, len(in.sessions))
	for _, s := range in.sessions {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *session) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	return all
}

// snapshot is the intents whose records stand in segments that are gone: those
// up to UpTo that were open when these were released. What follows UpTo is
// read from the segments.
type snapshot struct {
	Chain    string
	UpTo     uint64
	Sessions []*session
}

const snapshotName = "open.json"

// load takes in the snapshot, if there is one, and returns its UpTo.
func (in *intents) load(fs FS, chain string) (upTo uint64, err error) {
	b, err := read(fs, snapshotName)
	if err != nil || b == nil {
		return 0, err
	}
	var sn snapshot
	if err := json.Unmarshal(b, &sn); err != nil {
		return 0, fmt.Errorf("%s: %w", snapshotName, err)
	}
	if sn.Chain != chain {
		return 0, fmt.Errorf("%s belongs to another chain", snapshotName)
	}
	for _, s := range sn.Sessions {
		in.sessions[s.ID] = s
		for i := range s.Open {
			s.Open[i].room = outcomeRoom
			in.reserved += outcomeRoom
		}
		if s.Opened {
			s.room = outcomeRoom
			in.reserved += outcomeRoom
		}
	}
	return sn.UpTo, nil
}

// save makes a snapshot durable.
func (j *Journal) save(sn *snapshot) error {
	b, err := json.Marshal(sn)
	if err != nil {
		return err
	}
	return replace(j.fs, snapshotName, b)
}
