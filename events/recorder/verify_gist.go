package recorder

import (
	"runtime"
	"sync"

	"sallyport.dev/sallyport/events"
)

// gist is what verifying takes from a record of a block.
type gist struct {
	sum   [32]byte // its hash, computed anew
	blind bool     // its payload can't be read here: sum is what the block says
	facts Facts
	err   error // why there are no facts
}

// gistsAlone are so few records that sharing them out costs more than it saves.
const gistsAlone = 256

// read takes the gists of a block's records, on all processors: that is most of what
// verifying costs. They are good until the next block is read.
func (w *walker) read(b *storedBlock) {
	n := len(b.records)
	if n > cap(w.gists) {
		w.gists = make([]gist, n)
	}
	w.gists = w.gists[:n]
	workers := min(runtime.GOMAXPROCS(0), n/gistsAlone+1)
	for len(w.looks) < workers {
		w.looks = append(w.looks, looker{glance: w.glance})
	}
	var wg sync.WaitGroup
	for k := range workers {
		wg.Go(func() {
			for i := k * n / workers; i < (k+1)*n/workers; i++ {
				w.gists[i] = w.looks[k].gist(b, &b.records[i])
			}
		})
	}
	wg.Wait()
}

func (l *looker) gist(b *storedBlock, r *events.Record) (g gist) {
	if b.blind(r) {
		return gist{sum: r.Hash, blind: true, err: errBlind}
	}
	g.sum = r.Sum()
	g.facts, g.err = l.facts(r)
	return g
}
