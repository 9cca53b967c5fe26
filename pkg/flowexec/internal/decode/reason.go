package decode

import "strings"

// maxReason is the largest number of bytes of the reason in a row's outcome.
const maxReason = 2048

// Trimmed makes a text of user code fit for the reason of an outcome: it cuts it to 2,048 bytes,
// with " …" after a cut, and makes it valid UTF-8.
func Trimmed(reason string) string {
	if len(reason) > maxReason {
		return strings.ToValidUTF8(reason[:maxReason], "") + " …"
	}
	return strings.ToValidUTF8(reason, "\uFFFD")
}
