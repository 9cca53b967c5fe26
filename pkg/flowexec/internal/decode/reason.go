package decode

import "strings"

// maxReason bounds, in bytes, the reason that a row's outcome tells.
const maxReason = 2048

// Trimmed is a text of the user's as the reason of an outcome: cut to 2,048 bytes, and valid UTF-8.
func Trimmed(reason string) string {
	if len(reason) > maxReason {
		return strings.ToValidUTF8(reason[:maxReason], "") + " …"
	}
	return strings.ToValidUTF8(reason, "\uFFFD")
}
