package rules

import "github.com/weir-limiter/weir/internal/yamlfile"

// Error is one fault of a file.
type Error = yamlfile.Error

// Errors are the faults of one or more files. Use [errors.As] with an *[Error] for the first one.
type Errors = yamlfile.Errors
