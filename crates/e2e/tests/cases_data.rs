//! What people have on their disks, and what happened to them with it; each test names where it was reported.

#[path = "cases_data/folders.rs"]
mod folders;
#[path = "cases_data/images.rs"]
mod images;
#[path = "cases_data/interrupted.rs"]
mod interrupted;
#[path = "cases_data/make.rs"]
mod make;
#[path = "cases_data/tables.rs"]
mod texts;
