package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/redirect"
)

// resolveNow asks once for all names, for a guard that has no daemon yet, and
// protects what they lead to. The error names those of which no address is
// known.
func (w *nameWatch) resolveNow(out io.Writer, cfg *config.Config, g *redirect.Guard) error {
	list := cfg.Names()
	if len(list) == 0 {
		return nil
	}
	r, err := startResolver(cfg)
	if err == nil {
		defer r.close()
		err = r.ask(list)
	}
	for late := time.After(firstNames); err == nil && len(w.set.Unasked())+len(w.set.Unknown()) > 0; {
		select {
		case a, ok := <-r.answers:
			if !ok {
				err = fmt.Errorf("the resolver ended: %w", r.err)
				continue
			}
			w.set.Learn(a, time.Now(), usedAddresses())
			continue
		case <-late:
		}
		break
	}
	if err != nil {
		fmt.Fprintf(out, "names are not resolved: %v\n", err)
	}
	failed := w.protect(g, cfg)
	printSwept(out, w.takeSwept())
	for _, err := range w.set.Troubles(time.Now().Add(firstNames)) {
		fmt.Fprintln(out, err)
	}
	failed = errors.Join(failed, w.save())
	if unknown := w.set.Unknown(); len(unknown) > 0 {
		return errors.Join(failed, &exitError{
			code: 1, err: fmt.Errorf("the guard is up, but nothing is protected under %s: no address is known", strings.Join(unknown, ", ")),
			hint: "list an address beside the name, or bring the guard up again when DNS answers",
		})
	}
	return failed
}

// printSwept tells which connections were ended, and whose they were.
func printSwept(out io.Writer, swept []redirect.Bypass) {
	for _, b := range swept {
		who := "its process has ended"
		if p := b.Process; p != nil {
			who = fmt.Sprintf("process %d, %s", p.PID, cmp.Or(p.Exe, p.Comm))
		}
		fmt.Fprintf(out, "ended a connection older than the guard: %s -> %s (uid %d, %s)\n", b.Source, b.Destination, b.Peer.UID, render.Line(who))
	}
}
