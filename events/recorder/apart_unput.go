package recorder

import (
	"context"
	"sync"
	"time"
)

const (
	putTime   = 2 * time.Minute // for the bodies of a block: then the store of transcripts hangs
	unputTime = 10 * time.Second
)

// putNames are the bodies that a transaction put and that are its own.
type putNames struct {
	mu    sync.Mutex
	names []string
}

func (p *putNames) add(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names = append(p.names, name)
}

// unput deletes what was put for a transaction that failed before its commit: each
// retry encrypts anew, under new names, and would fill the disk. What is not
// encrypted, or was before, has the same name when it is tried again, by whichever
// recorder, and stays. What can't be deleted Prune finds.
func (a *adder) unput() {
	if len(a.put.names) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.putting), unputTime)
	defer cancel()
	for _, name := range a.put.names {
		if a.apart.Store.Delete(ctx, name) != nil {
			return // it does not answer: the failure itself is told
		}
	}
	a.put.names = nil
}
