package spiffe_test

import (
	"context"
	"testing"

	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

// What a connection of a process costs that is known already.
func BenchmarkBind(b *testing.B) {
	w := newWorld(b, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	a := ready(b, open(b, w.config()))
	c := w.connection(peerOf(b, agent(b, uidA)))
	held := w.bind(a, c)
	defer held.Release()
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l, err := a.Bind(context.Background(), c)
			if err != nil {
				b.Fatal(err)
			}
			l.Release()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l, err := a.Bind(context.Background(), c)
				if err != nil {
					b.Error(err)
					return
				}
				l.Release()
			}
		})
	})
	for name, api := range apis(b, w, a) {
		b.Run("attest/"+name, func(b *testing.B) {
			for b.Loop() {
				fresh, err := spiffe.New(w.config(), api, a.Own())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := fresh.Bind(context.Background(), c); err != nil {
					b.Fatal(err)
				}
				fresh.Close()
			}
		})
	}
}

func apis(b *testing.B, w *world, a *spiffe.Attestor) map[string]spiffe.API {
	b.Helper()
	d, err := spiffe.NewDelegated("unix://" + w.Admin)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	br, err := spiffe.NewBroker("unix://"+w.Broker, a.Own())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { br.Close() })
	return map[string]spiffe.API{"delegated": d, "broker": br}
}
