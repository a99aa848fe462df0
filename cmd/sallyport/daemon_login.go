package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/privsep"
)

// A person who logs in by SAML asks twice, through root's control socket: for
// where their browser must go, and whether the answer that it brought holds.
// The loader passes both on and reads neither.

// What Terms of a login hold.
const (
	termURL     = "url"     // where the browser must go
	termRelay   = "relay"   // what the answer must bring back
	termUntil   = "until"   // RFC 3339
	termSubject = "subject" // who it is
	termIssuer  = "issuer"  // who says so
)

// login does one of both, on its own goroutine: a provider may be slow.
func (d *daemon) login(o *order, fds []int) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), bindTime)
		defer cancel()
		v := verdict{To: doLogin, ID: o.ID}
		var err error
		if len(fds) == 0 {
			v.Terms, err = d.beginLogin(ctx, o.Text)
		} else {
			v.Terms, err = d.endLogin(ctx, fds[0])
		}
		if err != nil {
			v.Err = err.Error()
			d.log.Warn("a login is refused", "error", err)
		}
		_ = d.line.answer(v) // a loader that is gone ends us
	}()
}

func (d *daemon) beginLogin(ctx context.Context, provider string) (map[string]string, error) {
	r, err := d.setting.Load().people.Begin(ctx, provider)
	if err != nil {
		return nil, err
	}
	return map[string]string{termURL: r.URL, termRelay: r.RelayState, termUntil: r.Until.Format(time.RFC3339)}, nil
}

func (d *daemon) endLogin(ctx context.Context, fd int) (map[string]string, error) {
	raw, err := readLogin(fd)
	if err != nil {
		return nil, err
	}
	set := d.setting.Load()
	t, err := set.people.Accept(ctx, raw)
	if err != nil {
		return nil, err
	}
	if err := d.logins.save(set.logins); err != nil {
		d.log.Error("a login by SAML is forgotten with the next restart", "error", err)
	}
	d.note(&events.Event{
		Kind: events.Lifecycle, Time: time.Now(), Status: "login",
		Message: fmt.Sprintf("a person logged in by SAML: %s, says %s, until %s", t.Subject, t.Issuer, t.Expires.UTC().Format(time.RFC3339)),
	})
	return map[string]string{termSubject: t.Subject, termIssuer: t.Issuer, termUntil: t.Expires.Format(time.RFC3339)}, nil
}

// readLogin reads what root's command was given by the browser, and closes the
// descriptor.
func readLogin(fd int) (string, error) {
	f := os.NewFile(uintptr(fd), "response")
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, privsep.MaxToken+1))
	if err == nil && len(b) > privsep.MaxToken {
		err = errors.New("is too long")
	}
	if err != nil {
		return "", fmt.Errorf("the answer of the browser: %w", err)
	}
	return string(b), nil
}
