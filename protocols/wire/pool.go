package wire

import (
	"sync"
	"sync/atomic"
)

// Size is the size of a pooled buffer, in bytes.
const Size = 64 << 10

var pool = sync.Pool{New: func() any { return new([Size]byte) }}

var poisoned atomic.Bool

// Poison makes every buffer that is given back be overwritten. For tests: a
// slice that was kept too long then shows it.
func Poison(on bool) { poisoned.Store(on) }

// Borrow returns a buffer of Size bytes. Its content is arbitrary.
func Borrow() *[Size]byte { return pool.Get().(*[Size]byte) }

// Return gives a buffer back; the caller keeps no slice of it.
func Return(b *[Size]byte) {
	spoil(b[:])
	pool.Put(b)
}

func spoil(b []byte) {
	if poisoned.Load() {
		for i := range b {
			b[i] = 0xDB
		}
	}
}
