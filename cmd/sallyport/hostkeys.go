package main

import (
	"errors"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/vouch"
)

// hostFlags say whose signatures of a chain count.
type hostFlags struct{ keys, ids, bundle string }

func (h *hostFlags) register(cmd *cobra.Command) {
	h.registerKeys(cmd)
	f := cmd.Flags()
	f.StringVar(&h.ids, "host-ids", "", "SPIFFE ID of a host, with {host} for its name: it must have vouched for the key of a host that --host-keys does not name")
	f.StringVar(&h.bundle, "bundle", "", "file with the trust domain's authorities, also those that have expired")
	cmd.MarkFlagFilename("bundle", "pem")
}

// registerKeys has keys only.
func (h *hostFlags) registerKeys(cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.keys, "host-keys", "", "file with the public keys of the hosts: each must have signed its chain")
	cmd.MarkFlagFilename("host-keys")
}

func (h *hostFlags) given() bool { return *h != hostFlags{} }

// read returns the keys, nil where none were given.
func (h *hostFlags) read() (events.HostKeys, error) {
	if h.keys == "" {
		return nil, nil
	}
	return events.ReadHostKeys(h.keys)
}

// note adds them to what a store is held against.
func (h *hostFlags) note(n *recorder.Noted) (err error) {
	if n.Keys, err = h.read(); err != nil {
		return err
	}
	if (h.ids == "") != (h.bundle == "") {
		return errors.New("--host-ids and --bundle go together")
	}
	if h.ids != "" {
		n.Vouch, err = vouch.New(h.ids, vouch.File(h.bundle))
	}
	return err
}
