package main

import (
	"crypto/ed25519"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

func keyCmd() *cobra.Command {
	var file, origin string
	var log bool
	cmd := &cobra.Command{
		Use:   "key --key FILE",
		Short: "Print the public key that receipts are checked with",
		Long: `Print the public half of the recorder's key, making the key (mode 0600) where
there is none. Give the output to the hosts as evidence.recorder_key: a host
forgets a record only when a receipt signed by this key covers it.

With --log it is the key of the transparency log, in the form that its
checkpoints are verified with: "sallyport verify --log-key" takes it, and a witness.`,
		Example: `  sallyport-recorder key --key /var/lib/sallyport-recorder/recorder.key > /etc/sallyport/recorder.pub
  sallyport-recorder key --log --key /var/lib/sallyport-recorder/log.key > evidence-log.pub`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := jetstream.ReadPrivateKey(file)
			if err != nil {
				return err
			}
			if log {
				_, v, err := tlog.Signer(k, origin)
				if err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), v)
				}
				return err
			}
			b, err := jetstream.PublicPEM(k.Public().(ed25519.PublicKey))
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "key", "", "private key file (PEM)")
	cmd.Flags().BoolVar(&log, "log", false, "it is the transparency log's")
	cmd.Flags().StringVar(&origin, "log-origin", "", "name of the log, as run has it (default made of the key)")
	cmd.MarkFlagRequired("key")
	cmd.MarkFlagFilename("key")
	return cmd
}
