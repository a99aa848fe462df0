package main

import (
	"crypto/ed25519"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events/jetstream"
)

func keyCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "key --key FILE",
		Short: "Print the public key that receipts are checked with",
		Long: `Print the public half of the recorder's key, making the key (mode 0600) where
there is none. Give the output to the hosts as evidence.recorder_key: a host
forgets a record only when a receipt signed by this key covers it.`,
		Example: `  sallyport-recorder key --key /var/lib/sallyport-recorder/recorder.key > /etc/sallyport/recorder.pub`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := jetstream.ReadPrivateKey(file)
			if err != nil {
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
	cmd.MarkFlagRequired("key")
	cmd.MarkFlagFilename("key")
	return cmd
}
