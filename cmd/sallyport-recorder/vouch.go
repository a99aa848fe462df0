package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/vouch"
)

const (
	// authoritiesName is the file in the state's folder of all authorities by whose word a
	// key was taken: sallyport verify --bundle.
	authoritiesName = "authorities.pem"
	agentTime       = time.Minute // for an agent's first answer
)

// vouchOptions say whose word for a host's key counts.
type vouchOptions struct{ ids, bundle, agent string }

func (o *vouchOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.ids, "host-ids", "", "SPIFFE ID of a host, with {host} for its name: it must vouch for the key of a host that --host-keys does not name; needs --bundle or --spiffe-agent")
	f.StringVar(&o.bundle, "bundle", "", "file with the trust bundle of the hosts' trust domain (PEM or SPIFFE's JSON), read again each time")
	f.StringVar(&o.agent, "spiffe-agent", "", "socket of the Workload API that tells the trust bundle, as unix:///run/spire/agent.sock; its agent must know the recorder")
	cmd.MarkFlagFilename("bundle")
}

// open has the store go by them, where they are given. An agent that does not answer is an
// error: records wait in the stream for the next start.
func (o *vouchOptions) open(ctx context.Context, store *recorder.DB, state string) (done func(), err error) {
	done = func() {}
	if *o == (vouchOptions{}) {
		return done, nil
	}
	if o.ids == "" || (o.bundle == "") == (o.agent == "") {
		return nil, usageError{errors.New("--host-ids goes with --bundle or with --spiffe-agent, one of the two")}
	}
	from := x509bundle.Source(vouch.File(o.bundle))
	if o.agent != "" {
		first, cancel := context.WithTimeout(ctx, agentTime)
		defer cancel()
		agent, err := workloadapi.NewBundleSource(first, workloadapi.WithClientOptions(workloadapi.WithAddr(o.agent)))
		if err != nil {
			return nil, fmt.Errorf("--spiffe-agent %s: %w (is the recorder registered with it?)", o.agent, err)
		}
		from, done = agent, func() { agent.Close() }
	}
	kept := vouch.Kept{From: from, To: filepath.Join(state, authoritiesName)}
	rule, err := vouch.New(o.ids, kept)
	if err == nil {
		_, err = kept.GetX509BundleForTrustDomain(rule.Domain())
	}
	if err != nil {
		done()
		return nil, usageError{fmt.Errorf("--host-ids: %w", err)}
	}
	store.Vouch(rule)
	return done, nil
}
