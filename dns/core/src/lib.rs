//! Names without I/O: facts to records, questions to answers
