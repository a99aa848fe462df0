// Package sample reads a few values of each column of a PostgreSQL database, so
// that a person can be told what may be in them. It reads what its role may
// read, in read-only transactions with a time limit each, and says of the rest
// why it was not read. Values go to the caller's function, and nowhere else.
package sample
