package detect

// Limits of a candidate, in bytes from the byte that it is noticed by.
const (
	Back  = 256  // to its beginning and the words before that
	Ahead = 1024 // to its end; what goes on longer (URLs, tokens, keys) is followed
)

const window = 16 << 10

// DefaultMin is the least confidence of a finding where Options say none.
const DefaultMin = 50

// Options say what a Scanner looks for; the zero Options find nothing.
type Options struct {
	Kinds Set
	Min   uint8 // least confidence, 1 to 100; 0 is DefaultMin
}

// Finding is a place in the text. It holds nothing of the text.
type Finding struct {
	Offset     int64 // bytes from the beginning of the value or stream
	Length     int   // bytes
	Kind       Kind
	Confidence uint8 // percent: how sure the form alone makes it
}

// End is the offset behind the finding.
func (f Finding) End() int64 { return f.Offset + int64(f.Length) }

// Scanner finds in one value or stream at a time. It is not safe for
// concurrent use, and may be used again and again. Findings come in order and
// do not overlap; the slices that it returns are valid until its next call.
type Scanner struct {
	kinds Set
	min   uint8
	label context // what the column's name says

	found []Finding
	open  Finding // goes on beyond what was looked at; Kind 0 for none
	tail  follow  // how it goes on
	done  int     // end of the latest finding, in the window

	cand    candidate // the number that is looked at
	scratch [40]byte

	buf  []byte // of a stream: what is needed of what was seen, and what was not looked at
	next int    // where in buf to go on
	base int64  // offset of buf[0] in the stream
}

// New returns a Scanner.
func New(o Options) *Scanner {
	if o.Min == 0 {
		o.Min = DefaultMin
	}
	return &Scanner{kinds: o.Kinds, min: o.Min}
}

// Label tells what the text is called (a column, a field): words in it count as
// words before each value until the next call. "" takes them back.
func (s *Scanner) Label(name string) { s.label = labelContext(name) }

// Scan finds in a whole value. The value is not kept. It ends a stream that was
// being fed, and what was not told of it is lost.
func (s *Scanner) Scan(value []byte) []Finding {
	s.found = s.found[:0]
	s.reset()
	s.look(value, 0, true)
	s.shut(int64(len(value)))
	s.reset()
	return s.found
}

// Feed takes the next piece of a stream, of any size, and returns what is
// certain by now. The piece is not kept.
func (s *Scanner) Feed(piece []byte) []Finding {
	s.found = s.found[:0]
	for len(piece) > 0 {
		piece = s.take(piece)
		s.slide()
	}
	return s.found
}

// End ends the stream and returns what is left. The next Feed begins another.
func (s *Scanner) End() []Finding {
	s.found = s.found[:0]
	s.look(s.buf, s.next, true)
	s.shut(s.base + int64(len(s.buf)))
	s.reset()
	return s.found
}

// reset forgets the text, not what was found in it.
func (s *Scanner) reset() {
	s.buf = s.buf[:0]
	s.open, s.done, s.next, s.base = Finding{}, 0, 0, 0
	s.cand.b = nil
}

// take fills the window, looks at it once it is full, and returns what is left
// of the piece.
func (s *Scanner) take(piece []byte) []byte {
	if s.buf == nil {
		s.buf = make([]byte, 0, window)
	}
	n := min(cap(s.buf)-len(s.buf), len(piece))
	s.buf = append(s.buf, piece[:n]...)
	if len(s.buf) == cap(s.buf) {
		s.next = s.look(s.buf, s.next, false)
	}
	return piece[n:]
}

// past is how much of the window no candidate can reach any more, once it was
// looked at.
func (s *Scanner) past() int {
	if len(s.buf) < cap(s.buf) {
		return 0
	}
	return max(s.next-Back, 0)
}

// slide drops what is past.
func (s *Scanner) slide() {
	drop := s.past()
	if drop == 0 {
		return
	}
	s.buf = s.buf[:copy(s.buf, s.buf[drop:])]
	s.next -= drop
	s.done = max(s.done-drop, 0)
	s.base += int64(drop)
}

// emit records b[from:to] of the window.
func (s *Scanner) emit(k Kind, from, to int, confidence uint8) {
	s.done = to
	s.found = append(s.found, Finding{Offset: s.base + int64(from), Length: to - from, Kind: k, Confidence: confidence})
}

// shut ends a finding that went on, at an offset of the stream.
func (s *Scanner) shut(at int64) {
	if s.open.Kind == 0 {
		return
	}
	s.open.Length = int(at - s.open.Offset)
	s.found = append(s.found, s.open)
	s.open = Finding{}
}
