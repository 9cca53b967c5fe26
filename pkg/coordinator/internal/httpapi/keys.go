package httpapi

// Keys remembers keys of idempotency.
type Keys interface{}
