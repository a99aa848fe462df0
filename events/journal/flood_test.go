package journal_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

// Who adds pieces that may wait, faster than they are written, waits himself:
// they never fill the buffer.
func TestPiecesThatWaitDoNotFillTheBuffer(t *testing.T) {
	for _, size := range []int{100, 8 << 10, 60 << 10, 100 << 10} {
		for _, sessions := range []int{1, 500} {
			t.Run(fmt.Sprintf("%d bytes, %d sessions", size, sessions), func(t *testing.T) {
				const buffer = 2 << 20
				j := open(t, t.TempDir(), journal.Options{BufferBytes: buffer})
				text := strings.Repeat("x", size)
				var most int64
				for n := range min(8*buffer/size, 5000) {
					s := session(fmt.Sprint(n % sessions))
					if err := record(j, later(s, uint64(n+1), events.ChunkStatement, text)); err != nil {
						t.Fatalf("piece %d: %v", n, err)
					}
					most = max(most, int64(j.Stats().Buffered))
				}
				// What is written, what waits, and a piece.
				if most > buffer/4+256<<10 {
					t.Errorf("%d bytes of %d waited", most, buffer)
				}
			})
		}
	}
}

// Sessions that flood have no statement of another one refused.
func TestFloodBesideAVictim(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{BufferBytes: 1 << 20})
	text := strings.Repeat("x", 8<<10)
	var flood sync.WaitGroup
	var stop atomic.Bool
	for g := range 4 {
		s := session(fmt.Sprint("flood", g))
		flood.Go(func() {
			for n := uint64(1); n <= 2000; n++ {
				if err := record(j, later(s, n, events.ChunkBinds, text)); err != nil {
					t.Errorf("flooder %d, piece %d: %v", g, n, err)
					return
				}
			}
		})
	}
	go func() { flood.Wait(); stop.Store(true) }()
	v, tried, refused := session("victim"), uint64(0), 0
	for ; tried < 20 || !stop.Load(); tried++ {
		tk, err := j.Append(statement(v, tried+1, "x"))
		if err == nil {
			wait(t, tk)
			err = errors.Join(record(j, later(v, tried+1, events.ChunkStatement, "x")), record(j, now(v, tried+1, "rows")))
		}
		if err == nil {
			_, err = j.Append(event(events.Response, v, tried+1))
		}
		if err != nil {
			refused++
		}
	}
	if refused > 0 {
		t.Errorf("%d of %d refused", refused, tried)
	}
}
