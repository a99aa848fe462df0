package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// logFlags say against which transparency log a store is held.
type logFlags struct {
	dir, key  string
	witnesses []string
}

func (l *logFlags) register(cmd *cobra.Command) {
	l.registerKeys(cmd)
	cmd.Flags().StringVar(&l.dir, "log", "", "folder of the transparency log (default log in the store)")
}

func (l *logFlags) registerKeys(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.key, "log-key", "", "file with the public key of the transparency log (sallyport-recorder key --log)")
	f.StringArrayVar(&l.witnesses, "witness-key", nil, "file with the public key of a witness who must have signed; may be given again")
}

func (l *logFlags) given() bool { return l.key != "" || l.dir != "" || len(l.witnesses) > 0 }

// note adds the log, if there is a key, to what is known of a store; all is that
// the log must have all of it.
func (l *logFlags) note(n *recorder.Noted, store string, all bool) (err error) {
	if l.key == "" {
		if l.given() {
			return errors.New("--log and --witness-key need --log-key, the public key of the log")
		}
		if n.Log != nil {
			return errors.New("--expect noted the transparency log: give --log-key, its public key, to have it looked at again")
		}
		return nil
	}
	if n.Log == nil {
		n.Log = new(recorder.Logged)
	}
	n.Log.All = all
	if n.Log.Dir = l.dir; l.dir == "" {
		if recorder.IsURL(store) {
			return errors.New("a store in PostgreSQL needs --log, the folder of its transparency log (DIR/log of sallyport-recorder run --state DIR)")
		}
		n.Log.Dir = recorder.LogFolder(store)
	}
	keys, err := l.keys()
	if err == nil {
		n.Log.Keys = *keys
	}
	return err
}

// keys are those that must have signed the log; nil where none were given.
func (l *logFlags) keys() (*tlog.Keys, error) {
	if l.key == "" {
		if len(l.witnesses) > 0 {
			return nil, errors.New("--witness-key needs --log-key, the public key of the log")
		}
		return nil, nil
	}
	var keys tlog.Keys
	var err error
	if keys.Log, err = readVerifierKey(l.key); err != nil {
		return nil, err
	}
	for _, file := range l.witnesses {
		k, err := readVerifierKey(file)
		if err != nil {
			return nil, err
		}
		keys.Witnesses = append(keys.Witnesses, k)
	}
	return &keys, nil
}

// readVerifierKey reads a key in the form of signed notes: NAME+HASH+KEY.
func readVerifierKey(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	k := strings.TrimSpace(string(b))
	if strings.Count(k, "+") < 2 || strings.ContainsAny(k, "\n ") {
		return "", fmt.Errorf("%s: not a key of the form NAME+HASH+KEY, as sallyport-recorder key --log prints it", file)
	}
	return k, nil
}
