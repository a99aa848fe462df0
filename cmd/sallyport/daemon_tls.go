package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/tlsport"
)

// newLeaves takes the daemon's end of the signer's socket over.
func newLeaves(cfg *config.Config, asks *os.File) (*tlsport.Leaves, error) {
	defer asks.Close()
	if !cfg.Authority.Enabled {
		return nil, nil
	}
	conn, err := net.FileConn(asks)
	if err != nil {
		return nil, fmt.Errorf("the signer's socket: %w", err)
	}
	return tlsport.NewLeaves(conn, time.Now), nil
}

// clientTLS is what a connection's client may have, nil for nothing. Clients of
// unix sockets ask for none.
func (d *daemon) clientTLS(p *passage) *tls.Config {
	if d.leaves == nil || p.resource == nil || p.resource.TLS.Agent == config.Off || p.flow.Path != "" {
		return nil
	}
	names := slices.Clone(p.resource.TLS.Names)
	for _, a := range p.resource.Addresses {
		if a.Name != "" {
			names = append(names, a.Name)
		}
	}
	return d.leaves.Config(p.resource.Answers, p.flow.Destination.Addr().Unmap().WithZone("").String(), names...)
}
