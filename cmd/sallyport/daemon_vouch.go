package main

import (
	"errors"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"sallyport.dev/sallyport/events"
)

// vouchTime is how often this host's identity vouches for its signing key with the same
// SVID: what came too late, or before the recorder had its rule, is said again.
const vouchTime = 10 * time.Minute

// vouching has this host's own SVID vouch for the key that signs its chain, beside the
// signature; nil where no agent is configured. Without an SVID the chain is signed all the
// same: whether that is enough is for the recorder to say.
func (d *daemon) vouching() func(note string) string {
	if d.attestor == nil {
		return nil
	}
	var last *x509svid.SVID
	var at time.Time
	var told bool
	return func(note string) string {
		now := time.Now()
		svid, err := d.attestor.Own().GetX509SVID()
		if err == nil && svid == last && now.Sub(at) < vouchTime {
			return note
		}
		if err == nil && !now.Before(svid.Certificates[0].NotAfter) {
			err = errors.New("it has expired")
		}
		with := note
		if err == nil {
			with, err = events.Vouch(note, svid.Certificates, svid.PrivateKey)
		}
		if err != nil {
			if !told {
				d.log.Warn("this host's SVID does not vouch for its signing key", "error", err)
			}
			told = true
			return note
		}
		last, at, told = svid, now, false
		return with
	}
}
