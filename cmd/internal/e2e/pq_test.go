package e2e

import (
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/lib/pq"
)

// pqClient is a program on lib/pq, which an agent can run. It prints what it
// makes of refusals.
func pqClient(w io.Writer) int {
	if err := pqSpeak(w); err != nil {
		fmt.Fprintln(w, err)
		return 1
	}
	return 0
}

func pqSpeak(w io.Writer) error {
	db, err := sql.Open("postgres", "sslmode=disable") // the rest is from the environment
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // the pool does not hide a broken session
	var ssn string
	get, err := db.Prepare("SELECT ssn FROM clinic.patients WHERE id = $1")
	if err != nil {
		return err
	}
	for id := range 2 {
		if err := get.QueryRow(id + 1).Scan(&ssn); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "prepared", ssn)

	_, err = db.Exec("DELETE FROM clinic.patients WHERE id = $1", 1)
	n := 0
	fmt.Fprint(w, "refused ", state(err))
	if err := db.QueryRow("SELECT $1::int", 5).Scan(&n); err != nil {
		return err
	}
	fmt.Fprintln(w, ", then", n)

	tx, err := db.Begin()
	if err != nil {
		return err
	}
	_, err = tx.Exec("DELETE FROM clinic.patients")
	fmt.Fprint(w, "transaction refused ", state(err))
	fmt.Fprint(w, ", then ", state(tx.QueryRow("SELECT 1").Scan(&n)))
	fmt.Fprintln(w, ", commit:", tx.Commit())
	if err := db.QueryRow("SELECT 6").Scan(&n); err != nil {
		return err
	}
	fmt.Fprintln(w, "afterwards", n)
	return nil
}

// state returns an error's SQLSTATE.
func state(err error) string {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return string(e.Code)
	}
	return fmt.Sprint(err)
}
