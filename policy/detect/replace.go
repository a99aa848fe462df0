package detect

// Replacer writes text with everything that a Scanner finds in it replaced by
// the kind in brackets, such as [ssn]. It is not safe for concurrent use.
//
// Whole values go through Append. A stream goes through Feed and End; it is held
// back by as much as a finding may still reach, at most 16 KiB.
type Replacer struct {
	s     *Scanner
	queue []Finding // not passed yet
	at    int64     // offset of the next byte of the stream
	hide  int64     // bytes before it are of a finding that was written
	shown int64     // beginning of the latest finding that was written, -1 for none
	n     int
}

// NewReplacer returns a Replacer.
func NewReplacer(o Options) *Replacer { return &Replacer{s: New(o), shown: -1} }

// Label is that of [Scanner].
func (r *Replacer) Label(name string) { r.s.Label(name) }

// Append appends a whole value to dst and returns it, with the number of
// findings replaced. It ends a stream that was being fed. dst and value must not
// overlap.
func (r *Replacer) Append(dst, value []byte) ([]byte, int) {
	r.reset()
	found := r.s.Scan(value)
	from := 0
	for _, f := range found {
		dst = append(dst, value[from:f.Offset]...)
		dst = write(dst, f.Kind)
		from = int(f.End())
	}
	return append(dst, value[from:]...), len(found)
}

// Feed takes the next piece of a stream and appends to dst what is certain by
// now. It returns dst and how many findings begin in what was appended.
func (r *Replacer) Feed(dst, piece []byte) ([]byte, int) {
	r.n = 0
	for len(piece) > 0 {
		r.s.found = r.s.found[:0]
		piece = r.s.take(piece)
		r.queue = append(r.queue, r.s.found...)
		dst = r.pass(dst, r.s.buf[:r.s.past()])
		r.s.slide()
	}
	return dst, r.n
}

// End appends what is left of the stream. The next Feed begins another.
func (r *Replacer) End(dst []byte) ([]byte, int) {
	r.n = 0
	rest := r.s.buf
	r.queue = append(r.queue, r.s.End()...)
	dst = r.pass(dst, rest)
	n := r.n
	r.reset()
	return dst, n
}

func (r *Replacer) reset() {
	r.s.reset()
	r.queue, r.at, r.hide, r.shown, r.n = r.queue[:0], 0, 0, -1, 0
}

// pass appends b, which is the stream from r.at on.
func (r *Replacer) pass(dst, b []byte) []byte {
	begin, end := r.at, r.at+int64(len(b))
	done := 0
	for r.at < end {
		if r.at < r.hide {
			r.at = min(r.hide, end)
			continue
		}
		f := r.s.open
		closed := done < len(r.queue)
		if closed {
			f = r.queue[done]
		}
		if f.Kind == 0 || f.Offset >= end {
			dst = append(dst, b[r.at-begin:]...)
			r.at = end
			break
		}
		if f.Offset > r.at {
			dst = append(dst, b[r.at-begin:f.Offset-begin]...)
			r.at = f.Offset
		}
		if f.Offset != r.shown {
			dst = write(dst, f.Kind)
			r.shown = f.Offset
			r.n++
		}
		if closed {
			r.hide = f.End()
			done++
		} else {
			r.at = end
		}
	}
	r.queue = r.queue[:copy(r.queue, r.queue[done:])]
	return dst
}

func write(dst []byte, k Kind) []byte {
	dst = append(dst, '[')
	dst = append(dst, k.String()...)
	return append(dst, ']')
}
