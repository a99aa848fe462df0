package main

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/broker"
)

// natsTime is what a new connection to NATS waits for its files to be read again.
const natsTime = time.Second

// natsFiles are the files of evidence.nats.tls, which this process may not open.
type natsFiles struct {
	store *broker.Store
	first map[string][]byte // as they came with the configuration
	asks  atomic.Bool       // whether the loader answers by now
}

func newNATSFiles(store *broker.Store, cfg *config.Config, files map[string][]byte) *natsFiles {
	f := &natsFiles{store: store, first: map[string][]byte{}}
	for _, name := range cfg.Evidence.NATS.TLS.Files() {
		f.first[*name] = bytes.Clone(files[*name])
	}
	return f
}

// read returns a file as it is now: who renews a certificate neither restarts nor
// reloads sallyport. Where it can't be read now, what was read before has to do.
func (f *natsFiles) read(name string) ([]byte, error) {
	if !f.asks.Load() {
		return f.first[name], nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), natsTime)
	defer cancel()
	if err := f.store.Renew(ctx); err != nil {
		slog.Warn("the files of evidence.nats.tls can't be read again: the old ones stay", "error", err)
	}
	b, _, err := f.store.Get(ctx, name, 0)
	return b, err
}
