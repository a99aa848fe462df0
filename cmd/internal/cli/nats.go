package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport.dev/sallyport/events/jetstream"
)

// natsFlags are the flags of jetstream.TLS, by its members.
var natsFlags = map[string]string{"ca_file": "nats-ca", "cert_file": "nats-cert", "key_file": "nats-key"}

// AddNATSFlags adds the flags of TLS with NATS to those of its address.
func AddNATSFlags(f *pflag.FlagSet) {
	f.String("nats-ca", "", "file (PEM) of who vouches for NATS at its tls:// address (default the system's)")
	f.String("nats-cert", "", "file (PEM) of the client certificate for NATS; it is read again at each connection")
	f.String("nats-key", "", "file (PEM) of its private key")
	for _, name := range natsFlags {
		_ = cobra.MarkFlagFilename(f, name)
	}
}

// NATS returns what the flags say of TLS with the NATS at url.
func NATS(f *pflag.FlagSet, url string) (jetstream.TLS, error) {
	var t jetstream.TLS
	var errs []error
	for member, file := range t.Files() {
		v, err := f.GetString(natsFlags[member])
		*file, errs = v, append(errs, err)
	}
	t.Check(url, func(why string, _ ...any) {
		for member, flag := range natsFlags {
			why = strings.ReplaceAll(why, member, "--"+flag)
		}
		errs = append(errs, errors.New(why))
	})
	if err := errors.Join(errs...); err != nil {
		return t, fmt.Errorf("TLS with NATS: %w", err)
	}
	return t, nil
}
