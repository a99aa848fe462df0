package main

import (
	"fmt"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/seal"
)

// readRecipients reads for whom transcripts are encrypted, and refuses what is nobody;
// nil where the configuration names no file.
func readRecipients(cfg *config.Config) ([]byte, error) {
	file := cfg.Evidence.Transcripts.RecipientsFile
	if file == "" {
		return nil, nil
	}
	b, err := readFile(file, maxSecret)
	if err != nil {
		return nil, err
	}
	to, err := seal.ParseRecipients(b)
	if err == nil {
		_, err = seal.New(nil, to)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, nil
}

// sealing is a journal whose transcripts recipients alone read; where there are none, the
// journal itself.
func sealing(j events.Journal, recipients []byte) (events.Journal, error) {
	if recipients == nil {
		return j, nil
	}
	to, err := seal.ParseRecipients(recipients)
	if err != nil {
		return nil, fmt.Errorf("evidence.transcripts.recipients_file: %w", err)
	}
	return seal.New(j, to)
}
