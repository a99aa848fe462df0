package postgres

import (
	"sync"

	"sallyport.dev/sallyport/protocols/wire"
)

// window is the part of what arrived that pass is walking. What is walked goes
// out as it stands there, until something of it is changed or left out: from then
// on it is collected in a buffer, so that there is one write all the same.
type window struct {
	b    []byte
	i    int // the message being looked at
	from int // what is before it has been written to the client, or collected
	seg  int // what is before it has been accounted for; in out where that is used

	out    []byte // what was collected
	pooled *[]byte
}

// collected are the buffers of windows while they are used.
var collected = sync.Pool{New: func() any {
	b := make([]byte, 0, 2*wire.Size)
	return &b
}}

// collect has what was walked, and all that follows, go out from out.
func (w *window) collect() {
	if w.pooled == nil {
		w.pooled = collected.Get().(*[]byte)
		w.out = (*w.pooled)[:0]
		w.seg -= w.from
	}
	w.out = append(w.out, w.b[w.from:w.i]...)
	w.from = w.i
}

// skip passes over n bytes that do not go out.
func (w *window) skip(n int) {
	w.collect()
	w.i += n
	w.from = w.i
}

// walked returns what goes out next.
func (w *window) walked() []byte {
	if w.pooled == nil {
		return w.b[w.from:w.i]
	}
	w.collect()
	return w.out
}

// due returns what was walked since it was called before, as it goes out.
func (w *window) due() (b []byte) {
	if w.pooled == nil {
		b, w.seg = w.b[w.seg:w.i], w.i
		return b
	}
	w.collect()
	b, w.seg = w.out[w.seg:], len(w.out)
	return b
}

// written says that what was walked went out, and gives the buffer back.
func (w *window) written() {
	if w.pooled != nil {
		if cap(w.out) <= 8*wire.Size {
			*w.pooled = w.out[:0]
			collected.Put(w.pooled)
		}
		w.out, w.pooled = nil, nil
	}
	w.from, w.seg = w.i, w.i
}
