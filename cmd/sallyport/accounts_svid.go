package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

// ownSVID is this host's own X.509-SVID as a client certificate: the one that
// its agent has given last.
func (d *daemon) ownSVID(context.Context) (*tls.Certificate, error) {
	if d.attestor == nil {
		return nil, errors.New("this host has no SVID of its own (identity.spiffe)")
	}
	svid, err := d.attestor.Own().GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("this host's own SVID: %w", err)
	}
	c := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, link := range svid.Certificates {
		c.Certificate = append(c.Certificate, link.Raw)
	}
	return c, nil
}
